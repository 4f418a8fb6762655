-- What Outlook wraps files in (winmail.dat, [MS-OXTNEF]) and mail programs unwrap, ours in the webmail too.
--
-- `names(data)` is what the files in it are called, by each name that they have, and whether that is all: false where a
-- reader may find what ClamAV did not look at. That takes several files for one, stops at what is empty, and knows no file
-- that is a property; so what is not exactly as it should be is not whole.
local util = require "rspamd_util"
local tnef = {}

-- The lower half of attributes' tags (2.1.3.1), and properties ([MS-OXPROPS]).
local DATA, TITLE, PROPERTIES, CODE_PAGE = 0x800f, 0x8010, 0x9005, 0x9007
local LONG_NAME = 0x3707
local CONTENTS = { [0x1000] = true, [0x1009] = true, [0x1013] = true, [0x3701] = true }

-- Types of properties ([MS-OXCDATA] 2.11.1), and how many octets they take. Others are read differently by readers.
local FIXED = { [2] = 4, [3] = 4, [4] = 4, [5] = 8, [6] = 8, [7] = 8, [10] = 4, [11] = 4, [20] = 8, [64] = 8 }
local STRINGS = { [0x1e] = true, [0x1f] = true }
local LISTS = { [0x0d] = true, [0x1e] = true, [0x1f] = true, [0x102] = true }

-- In these code pages a name in ASCII is its octets; not so in those of mainframes, or in UTF-7.
local function is_plain(page)
  return page >= 1250 and page <= 1258 or page >= 28591 and page <= 28605
    or ({ [437] = 1, [850] = 1, [852] = 1, [866] = 1, [874] = 1, [932] = 1, [936] = 1, [949] = 1, [950] = 1,
          [20127] = 1, [65001] = 1 })[page] ~= nil
end

-- Octets preceded by their number, filled up to a multiple of four.
local function padded(data, at)
  local value, after = util.unpack("<s4", data, at)
  local filling = -#value % 4
  assert(not data:sub(after, after + filling - 1):find("%Z"), "a filling that says something")
  return value, after + filling
end

local function properties(data, names)
  local number, at = util.unpack("<I4", data)
  for _ = 1, number do
    local sort, id, value
    sort, id, at = util.unpack("<I2I2", data, at)
    if id >= 0x8000 then
      assert(id < 0xfffe, "a property without a name")
      local kind
      _, kind, at = util.unpack("<c16I4", data, at)
      assert(kind < 2, "a name of an unknown kind")
      if kind == 0 then
        id, at = util.unpack("<I4", data, at)
      else
        _, at = padded(data, at)
      end
    end
    assert(not CONTENTS[id], "a file that is a property")
    if LISTS[sort] then
      local values
      values, at = util.unpack("<I4", data, at)
      assert(values == 1, "not one value")
      value, at = padded(data, at)
    else
      at = at + assert(FIXED[sort], "an unknown type")
    end
    if id == LONG_NAME then
      assert(STRINGS[sort], "a name that is no text")
      table.insert(names, (value:gsub("%z", "")))
    end
  end
end

local function walk(data, names)
  local files, former, at = 0, 1, 7
  while data:find("%S", at) do
    local level, tag, value
    level, tag, value, _, at = util.unpack("<I1I4s4I2", data, at)
    assert(#value > 0 and level >= former and level <= 2, "not in order")
    former, tag = level, tag % 0x10000
    if tag == CODE_PAGE then
      assert(is_plain((util.unpack("<I4", value))), "a strange code page")
    elseif level == 2 and tag == DATA then
      files = files + 1
    elseif level == 2 and tag == TITLE then
      table.insert(names, (value:gsub("%z", "")))
    elseif level == 2 and tag == PROPERTIES then
      properties(value, names)
    end
  end
  assert(files < 2, "several files")
end

function tnef.names(data)
  local names = {}
  local whole = pcall(walk, data, names)
  return names, whole
end

return tnef
