#!lua flags=allow-oom
-- include: args telling
-- Make a job unknown: its result goes now, its hash when nobody can repeat a
-- call about it any more. One that has not ended still runs, unseen.
--
-- KEYS  none (they follow from the job)
-- ARGV  id
-- returns  1 forgotten, 0 there was no such job, -1 the key holds no job

local id = arg()
local key = K.job .. id
local row = redis.pcall('HMGET', key, 'status', 'origin', 'tq_forgotten', 'tq_entry')
if row.err then return -1 end
if not row[1] or row[3] or row[4] then return 0 end
redis.call('HSET', key, 'tq_forgotten', '1', 'result_ttl', '60', 'failure_ttl', '60')
local status, queue = row[1], row[2] or ''
if status == 'finished' or status == 'failed' or status == 'canceled'
  or status == 'stopped' then
  redis.call('DEL', K.results .. id)
  redis.call('EXPIRE', key, 60)
  redis.call('ZREM', K.finished .. queue, id)
  redis.call('ZREM', K.failed .. queue, id)
  redis.call('ZREM', K.canceled .. queue, id)
end
tell(id)
return 1
