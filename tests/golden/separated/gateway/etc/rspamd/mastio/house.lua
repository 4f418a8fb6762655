-- What the site's own rules share. rules.json beside this file is all that the site file says; the live
-- lists are in /var/lib/mastio/filter, changed by `mastio greylist` and read again by Rspamd within seconds.
local cryptobox = require "rspamd_cryptobox_hash"
local lua_util = require "lua_util"
local rspamd_ip = require "rspamd_ip"
local ucl = require "ucl"

local house = {}

do
  local parser = ucl.parser()
  local ok, why = parser:parse_file("/etc/rspamd/mastio/rules.json")
  if not ok then error("rules.json: " .. tostring(why)) end
  house.rules = parser:get_object()
end

-- Pushed by mastio with the accounts, "example.org OK" a line.
local domains = rspamd_config:add_map({
  url = "/var/lib/mastio/recipients/domains", type = "map", description = "the domains of the site",
})

local relays = {}
for _, address in ipairs(house.rules.relays) do
  relays[rspamd_ip.from_string(address):to_string()] = true
end

-- Whether a machine of the site hands the message over (the relay port wants its certificate).
function house.from_inside(task)
  local ip = task:get_ip()
  return ip ~= nil and ip:is_valid() and relays[ip:to_string()] == true
end

-- The domain itself and those above it: a.b.c → a.b.c, b.c, c.
function house.upwards(name)
  local rest = (name or ""):lower()
  return function()
    if rest == "" then return nil end
    local this = rest
    rest = rest:match("^[^.]*%.(.+)$") or ""
    return this
  end
end

-- Whether mail to this domain is mail to the site.
function house.is_ours(domain)
  return domains:get_key((domain or ""):lower())
end

-- The site's domain to which a name belongs, or nil. Who is below one is no colleague, but has to prove who he is.
function house.own_domain(name)
  for each in house.upwards(name) do
    if domains:get_key(each) then return each end
  end
end

-- Whether `name` is `top` or below it.
function house.is_below(name, top)
  return name == top or name:sub(-#top - 1) == "." .. top
end

-- The envelope's sender (of "<>" its address is ""), and the address in From:; {} when none can be read.
function house.sender(task)
  return (task:get_from({ "smtp", "orig" }) or {})[1] or {}
end

function house.author(task)
  return (task:get_from({ "mime", "orig" }) or {})[1] or {}
end

-- Where Valkey keeps when users called an author a sender of spam.
function house.spammer(author)
  return "mastio:spammer:" .. cryptobox.create_specific("sha256", (author.addr or ""):lower()):hex()
end

-- The domains that have proven that they sent the message: by SPF (RFC 7208), by DKIM (RFC 6376).
function house.proven(task)
  local found = {}
  if task:has_symbol("R_SPF_ALLOW") then
    local domain = house.sender(task).domain
    found[((domain and domain ~= "") and domain or (task:get_helo() or "")):lower()] = "spf"
  end
  for _, option in ipairs(((task:get_symbol("DKIM_TRACE") or {})[1] or {}).options or {}) do
    local domain, result = option:match("^(.*):(.)$")
    if result == "+" then found[domain:lower()] = "dkim" end
  end
  return found
end

-- A proven domain that speaks for `name` (DMARC's relaxed alignment, RFC 7489, 3.1), or nil.
function house.speaks_for(task, name)
  local util = require "rspamd_util"
  if not name or name == "" then return nil end
  for domain in pairs(house.proven(task)) do
    if util.get_tld(domain) == util.get_tld(name:lower()) then return domain end
  end
end

-- What the site file says for the domains that a message goes to, each once; for one without a table of its own,
-- what it says for the whole site. Postfix tells Rspamd a domain's plain name ("example.org." is example.org).
function house.leanings(task)
  local found, known = {}, {}
  for _, recipient in ipairs(task:get_recipients("smtp") or {}) do
    local leaning = house.rules.domains[(recipient.domain or ""):lower()] or house.rules.site
    if not known[leaning] then table.insert(found, leaning) end
    known[leaning] = true
  end
  return found[1] and found or { house.rules.site }
end

-- One for all recipients: nobody writes to a second one to be judged by what the first one's domain bears. The
-- lowest of each score, the highest of each weight; lists are asked one by one (lists.lua).
function house.strictest(task)
  local all = house.leanings(task)
  if not all[2] then return all[1] end
  local found = { topics = {} }
  for _, one in ipairs(all) do
    for _, name in ipairs({ "greylist_score", "spam_junk_score", "spam_reject_score" }) do
      found[name] = math.min(found[name] or math.huge, one[name])
    end
    for topic in pairs(house.rules.topics) do
      found.topics[topic] = math.max(found.topics[topic] or 0, one.topics[topic] or 1.0)
    end
  end
  return found
end

-- A rule: `body` runs for each message after the filters, in the order of `priority` (small first).
function house.rule(name, priority, body)
  rspamd_config:register_symbol({
    name = name, type = "postfilter", priority = priority, callback = body, score = 0.0, group = "mastio",
    flags = "ignore_passthrough",
  })
end

function house.refuse(task, module, message)
  task:insert_result(module, 0.0, message)
  task:set_pre_result({ action = "reject", message = "Message refused: " .. message, module = module })
end

function house.later(task, module, message)
  task:set_pre_result({ action = "soft reject", message = "Try again later: " .. message, module = module })
end

house.trim = lua_util.str_trim
return house
