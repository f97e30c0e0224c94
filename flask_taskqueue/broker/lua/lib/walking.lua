-- Go through what was there when somebody began, some of it a call. Needs clock.

-- Whether a time stamp is of after that moment. One that lies in the future, or that is
-- none, says nothing.
local function is_later(at, begun)
  return at and at > begun and at <= stamp(now)
end

-- Ids of a sorted set behind one that stayed; from the first on where that is gone.
local function ids_behind(set, last, most)
  local rank = redis.call('ZRANK', set, last)
  local first = rank and rank + 1 or 0
  return redis.call('ZRANGE', set, first, first + most - 1)
end
