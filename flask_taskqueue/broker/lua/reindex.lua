#!lua flags=allow-oom
-- include: clock args entries
-- Put entries back into the index that it lost, or has at another time.
--
-- KEYS  none (they follow from the entries)
-- ARGV  app, counted list of ids
-- returns  how many were put back

local app, put_back = arg(), 0
for _, id in ipairs(list()) do
  local row = redis.pcall('HMGET', K.entry .. id, 'fingerprint', 'paused')
  local score, indexed = times(app, id)
  if not row.err and row[1] and not row[2] and score and indexed ~= score then
    redis.call('ZADD', K.due .. app, score, id)
    put_back = put_back + 1
  end
end
return put_back
