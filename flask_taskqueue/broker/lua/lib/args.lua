-- Read ARGV from the front: counted groups, so that nothing unpacks it whole.

local argument = 0

local function arg()
  argument = argument + 1
  return ARGV[argument]
end

local function count()
  return tonumber(arg())
end

-- COUNT, then COUNT values.
local function list()
  local out = {}
  for i = 1, count() do out[i] = arg() end
  return out
end

local function extend(target, more)
  for i = 1, #more do target[#target + 1] = more[i] end
  return target
end
