-- Who is it from? SPF, DKIM, DMARC and ARC are checked by Rspamd; here their verdicts are obeyed.
--
--  * A message needs one From: that all readers understand alike (RFC 5322, 3.6.2).
--  * Who claims to be one of us, in From: or in the envelope, must prove it, whatever DNS says.
--  * A domain's DMARC policy (RFC 7489) is done as it asks: reject, or Junk. Can it not be asked: try again later.
--  * A trusted forwarder's ARC seal (RFC 8617) that says "was proven when it came to me" stands for the proof.
--
-- Not for mail that machines of the site hand over: the store knows who wrote it.
local house = dofile("/etc/rspamd/mastio/house.lua")
local rspamd_util = require "rspamd_util"
local NAME = "AUTHENTICITY"

local trusted = {}
for _, domain in ipairs(house.rules.trusted_forwarders) do trusted[domain] = true end

-- A structured field without its comments, a "?" for each quoted string (RFC 5322, 3.2), from left to right: a quote in a
-- comment is none, nor is a bracket in quotes. What does not end as it began says nothing: "".
local function plain(line)
  local out, depth, quoted, at = {}, 0, false, 1
  while at <= #line do
    local char = line:sub(at, at)
    if char == "\\" then
      at = at + 1
    elseif quoted then
      quoted = char ~= '"'
    elseif char == "(" then
      depth = depth + 1
    elseif char == ")" then
      depth = depth - 1
      if depth < 0 then return "" end
      table.insert(out, " ")
    elseif depth == 0 then
      quoted = char == '"'
      table.insert(out, quoted and "?" or char)
    end
    at = at + 1
  end
  return (depth == 0 and not quoted) and table.concat(out) or ""
end

-- What an authentication server says it has found (RFC 8601, 2.2): each method's result, and the names it is about.
-- A sender chooses parts of such a line: what stands in comments or quotes says nothing, nor does what only looks like
-- a result within another one's name ("smtp.mailfrom=dmarc=pass@…").
local function verdicts(line)
  local found = {}
  for part in plain(line:lower()):gmatch("[^;]+") do
    local method, result, rest = part:match("^%s*([%w-]+)%s*=%s*([a-z]+)(.*)$")
    if method then
      local names = {}
      for key, value in rest:gmatch("%s([%w.-]+)%s*=%s*(%S+)") do names[key] = value:match("([^@]*)$") end
      table.insert(found, { method = method, result = result, names = names })
    end
  end
  return found
end

-- Whether it says that the author's domain sent the message: by DMARC, or, where a server knows none, by SPF or DKIM
-- of that domain (relaxed alignment). Of two results of DMARC one is not the server's own word.
local NAMES = { dkim = { "header.d", "header.i" }, spf = { "smtp.mailfrom", "smtp.mail" } }

local function says_proven(line, author)
  local top, by_dmarc, by_others = rspamd_util.get_tld(author), nil, false
  for _, it in ipairs(verdicts(line)) do
    local passes = it.result == "pass"
    if it.method == "dmarc" then
      if by_dmarc ~= nil then return false end
      by_dmarc = passes and it.names["header.from"] == author
    end
    for _, key in ipairs(passes and NAMES[it.method] or {}) do
      local name = it.names[key]
      if name and rspamd_util.get_tld(name) == top then by_others = true end
    end
  end
  if by_dmarc ~= nil then return by_dmarc end
  return by_others
end

-- The last seal counts: whoever changed the message after a trusted one sealed it, sealed it anew. It covers one verdict
-- of each instance, and Rspamd does not say which where there are more, nor does it know one that begins otherwise.
local function vouched_for(task)
  local verdict = ((task:get_symbol("ARC_ALLOW") or {})[1] or {}).options or {}
  local domain, instance = (verdict[1] or ""):match("^([^:]+):.*i=(%d+)$")
  local author = (house.author(task).domain or ""):lower()
  if not domain or not trusted[domain:lower()] or author == "" then return false end
  local results = task:get_header_full("ARC-Authentication-Results") or {}
  if #results ~= tonumber(instance) then return false end
  for _, header in ipairs(results) do
    if header.value:match("^%s*i=(%d+);") == instance then return says_proven(header.value, author) end
  end
  return false
end

-- Why readers may see different authors in it, or nil.
local function ambiguous(task)
  if not house.sender(task).addr then return "nobody can read its envelope's sender" end
  if task:get_header_count("From") ~= 1 then return "there must be one From:" end
  local raw = task:get_header_raw("From") or ""
  if raw:find("[%z\1-\8\11\12\14-\31\127]") then return "control characters in From:" end
  local authors = rspamd_util.parse_mail_address(raw, task:get_mempool()) or {}
  if #authors ~= 1 or not (authors[1].addr or ""):find("@") then
    return "From: must have one address"
  end
end

-- Our domains that From: shows outside of quotes, wherever in it an address may be read.
local function claimed(task)
  local found = {}
  local text = (task:get_header("From") or ""):gsub('"[^"]*"%s*<', "<")
  for domain in text:gmatch("@%s*([%w._-]+)") do
    local own = house.own_domain((domain:gsub("%.$", "")))
    if own then found[own] = true end
  end
  for _, person in ipairs({ house.sender(task), house.author(task) }) do
    local own = house.own_domain(person.domain)
    if own then found[own] = true end
  end
  return found
end

local function proves(task, own)
  for domain in pairs(house.proven(task)) do
    if house.is_below(domain, own) then return true end
  end
end

house.rule(NAME, 1, function(task)
  if house.from_inside(task) then return end
  local vouched = vouched_for(task)
  if vouched then task:insert_result("TRUSTED_FORWARDER", 1.0) end
  local why = ambiguous(task)
  if why then return house.refuse(task, NAME, why) end
  for own in pairs(claimed(task)) do
    if not vouched and not proves(task, own) then
      if task:has_symbol("R_SPF_DNSFAIL") or task:has_symbol("R_DKIM_TEMPFAIL") then
        return house.later(task, NAME, "it cannot be checked now who sent it")
      end
      return house.refuse(task, NAME, "it claims to be from " .. own .. ", and nothing proves that")
    end
  end
  if vouched then return end
  local domain = house.author(task).domain or "its sender"
  -- Its policy, or what would satisfy it, cannot be looked up now. What that very domain has proven satisfies any.
  if task:has_symbol("DMARC_DNSFAIL") and not house.proven(task)[domain:lower()] then
    return house.later(task, NAME, "the DMARC policy of " .. domain .. " cannot be checked now")
  end
  if task:has_symbol("DMARC_POLICY_REJECT") then
    return house.refuse(task, NAME, "it is not from " .. domain .. ", whose DMARC policy is to reject it")
  end
  if task:has_symbol("DMARC_POLICY_QUARANTINE") then
    task:set_pre_result("add header", "DMARC quarantine", NAME, nil, nil, "least")
  end
end)
rspamd_config:set_metric_symbol({ name = "TRUSTED_FORWARDER", score = -3.0, group = "mastio" })
