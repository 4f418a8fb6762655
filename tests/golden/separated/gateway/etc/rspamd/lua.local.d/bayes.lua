-- Bayes keeps what it has learned in Valkey. Does Valkey not answer, Rspamd (3.12, lua_bayes_redis.lua) writes that into
-- its log and goes on without Bayes: what Bayes alone knows to be spam would be let in from all who prove who
-- they are, whom greylisting does not stop. Here such a message comes again later, whoever sends it.
--
-- Not what machines of the site hand over: who wrote that is known, and how much they send is limited.
local house = dofile("/etc/rspamd/mastio/house.lua")
local bayes = require "lua_bayes_redis"
local NAME = "BAYES_AWAY"

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
  end, learn
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
