-- Greylisting: suspicious mail from senders without a history is asked to come again later. Real mail
-- servers do, most robots do not; and when it comes again it is judged anew, with what was learned since.
--
-- Never asked: whom a user has written to (unless something speaks for a forgery), who has sent clean mail before,
-- who is proven by SPF or DKIM and not yet at the score for Junk, who is welcome, and what `mastio greylist allow` names.
-- A second try is the same message from the same sender, from wherever it comes: a server keeps what it could not deliver, and a
-- provider may come from another of its addresses; a robot that sends something else each day has not come again.
-- Who did is believed from then on, in that network. What is not suspicious is never asked, whatever else its sender sent.
--
-- In Valkey (all of it expires): mastio:grey:* who waits and waited, mastio:clean:* who has a history,
-- mastio:wrote:* whom users wrote to (SHA-256; the store tells, see learnd), mastio:counts totals. Does Valkey not
-- answer: try again later.
local house = dofile("/etc/rspamd/mastio/house.lua")
local cryptobox = require "rspamd_cryptobox_hash"
local lua_redis = require "lua_redis"
local rspamd_logger = require "rspamd_logger"
local NAME = "GREYLISTING"
local DAY = 86400
local WINDOW, MEMORY, HISTORY = 2 * DAY, 35 * DAY, 90 * DAY

local redis = lua_redis.parse_redis_server("greylisting")
local allowed = rspamd_config:add_map({ url = "/var/lib/mastio/filter/allow", type = "map", description = "never greylisted" })
local allowed_networks = rspamd_config:add_map({
  url = "/var/lib/mastio/filter/allow-networks", type = "radix", description = "networks never greylisted",
})

-- Whom users have called a sender of spam (the key says when) has no history: the Lua of Valkey's scripts for that.
local COUNTS = [[
local function counts(key, spammer)
  return redis.call('EXISTS', key) == 1
    and (key:sub(1, 13) ~= 'mastio:clean:' or redis.call('EXISTS', spammer) == 0)
end
]]

-- KEYS: by sender and network, by message, who was called a spammer, then reasons to let it pass. ARGV: now, delay, window,
-- memory, who, whom, from where, score. Answers "known", "wait" or "pass", and for "wait" the seconds left.
local judge = lua_redis.add_redis_script(COUNTS .. [[
for i = 4, #KEYS do
  if counts(KEYS[i], KEYS[3]) then
    redis.call('HINCRBY', 'mastio:counts', 'known', 1)
    return { 'known', 0 }
  end
end
local now, delay, said = tonumber(ARGV[1]), tonumber(ARGV[2]), redis.call('GET', KEYS[3])
for i = 1, 2 do
  local passed = redis.call('HGET', KEYS[i], 'passed')
  if passed and said and tonumber(passed) <= tonumber(said) then redis.call('DEL', KEYS[i]) end
end
local believed, began = redis.call('HGET', KEYS[1], 'passed'), redis.call('HGET', KEYS[2], 'first')
local first = tonumber(began or now)
for i = 1, 2 do
  if redis.call('HSETNX', KEYS[i], 'first', first) == 1 then redis.call('EXPIRE', KEYS[i], ARGV[3]) end
end
redis.call('HSET', KEYS[1], 'sender', ARGV[5], 'recipient', ARGV[6], 'address', ARGV[7], 'score', ARGV[8])
redis.call('HINCRBY', KEYS[1], 'tries', 1)
if not believed and now - first < delay then
  if not began then redis.call('HINCRBY', 'mastio:counts', 'delayed', 1) end
  return { 'wait', delay - (now - first) }
end
for i = 1, 2 do
  if redis.call('HSETNX', KEYS[i], 'passed', now) == 1 then
    redis.call('EXPIRE', KEYS[i], ARGV[4])
    if i == 2 and began then redis.call('HINCRBY', 'mastio:counts', 'passed', 1) end
  end
end
return { 'pass', 0 }
]], redis)

local function key(kind, ...)
  local hash = cryptobox.create()
  for _, text in ipairs({ ... }) do hash:update(text .. "\n") end
  return "mastio:" .. kind .. ":" .. hash:base32():sub(1, 24)
end

local function network(task)
  local ip = task:get_ip()
  if not (ip and ip:is_valid()) then return "none" end
  return tostring(ip:apply_mask(ip:get_version() == 4 and 24 or 64))
end

local function address(person)
  return (person.addr or ""):lower()
end

-- Under what name a user has written to somebody. Users write to each other as well: a stranger gains nothing by
-- claiming to be one of them.
local function wrote(author)
  if house.is_ours(author.domain) then return {} end
  return { "mastio:wrote:" .. cryptobox.create_specific("sha256", address(author)):hex() }
end

-- Under what names a sender has a history: proven domains that stand for From:, else sender and network.
local function names(task)
  local domain = house.speaks_for(task, house.author(task).domain)
  local found = { key("clean", address(house.sender(task)), network(task)) }
  if domain then table.insert(found, key("clean", domain, address(house.author(task)))) end
  return found
end

local function recipients(task)
  local found = {}
  for _, recipient in ipairs(task:get_recipients("smtp") or {}) do
    table.insert(found, recipient.addr:lower())
  end
  table.sort(found)
  return table.concat(found, " ")
end

local function is_allowed(task)
  for _, person in ipairs({ house.sender(task), house.author(task) }) do
    if allowed:get_key(address(person)) then return true end
    for each in house.upwards(person.domain) do
      if allowed:get_key(each) then return true end
    end
  end
  local ip = task:get_ip()
  return ip and ip:is_valid() and allowed_networks:get_key(ip)
end

local FORGED = { "R_SPF_FAIL", "R_SPF_SOFTFAIL", "R_DKIM_REJECT", "DMARC_POLICY_QUARANTINE" }
local function looks_forged(task)
  for _, symbol in ipairs(FORGED) do
    if task:has_symbol(symbol) then return true end
  end
end

local function away(task, name, err)
  rspamd_logger.errx(task, "%s: Valkey: %s", name, err)
  house.later(task, name, "the greylist is not ready")
end

-- KEYS: who was called a spammer, then reasons to call the sender known. Bayes (its lessons are counted in RS) is silent
-- until it has been taught 200 of each kind, min_learns in classifier-bayes.conf: before that, nobody is a stranger.
local known = lua_redis.add_redis_script(COUNTS .. [[
for i = 2, #KEYS do
  if counts(KEYS[i], KEYS[1]) then return 'known' end
end
for _, kind in ipairs({ 'learns_spam', 'learns_ham' }) do
  if tonumber(redis.call('HGET', 'RS', kind) or 0) < 200 then return 'untaught' end
end
return 'stranger'
]], redis)

-- Who writes weighs in the score itself. CORRESPONDENT: a user has written to the author, who is proven: an odd
-- message of theirs is no reason for Junk. STRANGER: nothing is known of the sender, nothing proves the author,
-- and the text is not like what users get; by itself it only asks to come again, and it makes other doubts count.
local HISTORY_RULE = "SENDER_HISTORY"
house.rule(HISTORY_RULE, 7, function(task)
  local action, author = task:get_metric_action(), house.author(task)
  if house.from_inside(task) or action == "reject" or action == "soft reject" then return end
  local keys, proven = wrote(author), house.speaks_for(task, author.domain)
  if proven then
    if not keys[1] or task:get_metric_score()[1] < house.strictest(task).spam_junk_score then return end
  else
    if task:has_symbol("BAYES_HAM") then return end
    for _, name in ipairs(names(task)) do table.insert(keys, name) end
  end
  table.insert(keys, 1, house.spammer(author))
  local function answer(err, data)
    if err then return away(task, HISTORY_RULE, err) end
    if proven and data == "known" then task:insert_result("CORRESPONDENT", 1.0) end
    if not proven and data == "stranger" then task:insert_result("STRANGER", 1.0) end
  end
  local asked = lua_redis.exec_redis_script(known, { task = task, is_write = false, key = keys[1] }, answer, keys, {})
  if not asked then away(task, HISTORY_RULE, "no connection") end
end)
rspamd_config:set_metric_symbol({ name = "CORRESPONDENT", score = -4.0, group = "mastio" })
rspamd_config:set_metric_symbol({ name = "STRANGER", score = 2.0, group = "mastio" })

-- For greylisting a stranger weighs more: with the usual threshold it is enough, in a message that is well made otherwise.
local MORE = 1.5
local function doubt(task)
  return task:get_metric_score()[1] + (task:has_symbol("STRANGER") and MORE or 0)
end

house.rule(NAME, 8, function(task)
  local action = task:get_metric_action()
  if house.from_inside(task) or action == "reject" or action == "soft reject" then return end
  local score, leaning = task:get_metric_score()[1], house.strictest(task)
  if doubt(task) < leaning.greylist_score or is_allowed(task) then return end
  if score < leaning.spam_junk_score and house.speaks_for(task, house.author(task).domain) then return end

  local sender, whom, where = address(house.sender(task)), recipients(task), network(task)
  local body = cryptobox.create_specific("md5", task:get_rawbody()):hex()
  local keys = {
    key("grey", sender, whom, where),
    key("seen", sender, whom, address(house.author(task)), task:get_subject() or "", body),
    house.spammer(house.author(task)),
  }
  for _, name in ipairs(names(task)) do table.insert(keys, name) end
  if not looks_forged(task) then
    for _, name in ipairs(wrote(house.author(task))) do table.insert(keys, name) end
  end

  local function answer(err, data)
    if err or type(data) ~= "table" then return away(task, NAME, err) end
    task:insert_result(NAME, 0.0, data[1], tostring(data[2]))
    if data[1] == "wait" then house.later(task, NAME, "greylisted for " .. tostring(data[2]) .. " s") end
  end
  local asked = lua_redis.exec_redis_script(judge, { task = task, is_write = true, key = keys[1] }, answer, keys, {
    tostring(math.floor(task:get_timeval(true) or 0)), tostring(house.rules.greylist_delay),
    tostring(WINDOW), tostring(MEMORY), sender, whom, tostring(task:get_ip()), string.format("%.1f", score),
  })
  if not asked then away(task, NAME, "no connection") end
end)

-- What is remembered of mail that was let through.
local function remember(task, name, seconds)
  lua_redis.redis_make_request(task, redis, name, true, function(err)
    if err then rspamd_logger.errx(task, "greylisting: Valkey: %s", err) end
  end, "SETEX", { name, tostring(seconds), "1" })
end

rspamd_config:register_symbol({
  name = "GREYLISTING_MEMORY", type = "idempotent", group = "mastio",
  callback = function(task)
    if task:get_metric_action() ~= "no action" or house.from_inside(task) then return end
    if doubt(task) < house.strictest(task).greylist_score and not looks_forged(task) then
      for _, name in ipairs(names(task)) do remember(task, name, HISTORY) end
    end
  end,
})
