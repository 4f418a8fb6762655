-- ClamAV answers "… ERROR" when it could not look: no memory, no room, too much. Rspamd (3.12, lua_scanners/clamav.lua)
-- knows "OK" and "FOUND" alone, stumbles over all else, and the message passes as if it were clean. Here any other
-- answer is a failure: asked once more, then CLAM_VIRUS_FAIL (force_actions.conf), and the sender comes again.
local tcp = require "rspamd_tcp"
local request = tcp.request

local function verdict(answer)
  return answer:find("^stream: OK") or answer:find("^stream: .+ FOUND")
end

tcp.request = function(options)
  local asked, callback = options.data, options.callback
  if type(asked) == "table" and tostring(asked[1]):sub(1, 9) == "zINSTREAM" then
    options.callback = function(err, data, ...)
      local answer = tostring(data or "")
      if not err and not verdict(answer) then
        err = "no verdict: " .. answer
      end
      return callback(err, data, ...)
    end
  end
  return request(options)
end
