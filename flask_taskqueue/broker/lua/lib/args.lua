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
  local size, from = count(), argument + 1
  argument = argument + size
  -- Made at once where the stack bears it: a table that grows is moved again and again.
  if size < 1000 then return {unpack(ARGV, from, argument)} end
  local out = {}
  for i = 1, size do out[i] = ARGV[from + i - 1] end
  return out
end

local function extend(target, more)
  for i = 1, #more do target[#target + 1] = more[i] end
  return target
end
