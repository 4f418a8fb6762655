-- Bayes keeps what it has learned in Valkey. Does Valkey not answer, Rspamd (3.12, lua_bayes_redis.lua) writes that into
-- its log and goes on without Bayes: what Bayes alone knows to be spam would be let in from all who prove who
-- they are, whom greylisting does not stop. Here such a message comes again later, whoever sends it.
--
-- Not what machines of the site hand over: who wrote that is known, and how much they send is limited.
local house = dofile("/etc/rspamd/mastio/house.lua")
local bayes = require "lua_bayes_redis"
local lua_redis = require "lua_redis"
local rspamd_logger = require "rspamd_logger"
local NAME = "BAYES_AWAY"

-- Whom users have called a sender of spam loses the history that greylisting looks at, until they say otherwise. What
-- Rspamd learns by itself (autolearn) is no verdict of theirs, and anybody can cause it in another one's name.
local redis = lua_redis.parse_redis_server("greylisting")
local function remember(task, is_spam)
  if not task:get_request_header("Learn-Type") then return end
  local key = house.spammer(house.author(task))
  local command, arguments = "DEL", { key }
  if is_spam then command, arguments = "SETEX", { key, tostring(90 * 86400), tostring(os.time()) } end
  lua_redis.redis_make_request(task, redis, key, true, function(err)
    if err then rspamd_logger.errx(task, "bayes: Valkey: %s", err) end
  end, command, arguments)
end

local init = bayes.lua_bayes_init_statfile

-- How many questions of this message are open. An error leaves one open, and so does a script that Valkey was not
-- there to be given: then nobody is called back.
bayes.lua_bayes_init_statfile = function(...)
  local ask, learn = init(...)
  if not ask then return nil end
  return function(task, key, id, is_spam, tokens, callback)
    local open = task:cache_get(NAME) or { 0 }
    open[1] = open[1] + 1
    task:cache_set(NAME, open)
    return ask(task, key, id, is_spam, tokens, function(answered, ok, ...)
      if ok then open[1] = open[1] - 1 end
      return callback(answered, ok, ...)
    end)
  end, function(task, key, id, is_spam, symbol, is_unlearn, ...)
    if not is_unlearn then remember(task, is_spam) end
    return learn(task, key, id, is_spam, symbol, is_unlearn, ...)
  end
end

-- After greylisting: whom that asks to come again has been told so.
house.rule(NAME, 9, function(task)
  local action, open = task:get_metric_action(), task:cache_get(NAME)
  if house.from_inside(task) or action == "reject" or action == "soft reject" then return end
  if open and open[1] > 0 then
    task:insert_result(NAME, 0.0)
    house.later(task, NAME, "what users taught the filter is not ready")
  end
end)
