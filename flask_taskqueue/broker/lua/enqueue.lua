#!lua
-- include: clock args queueing
-- Write a job and put it where it waits.
--
-- KEYS  none (they follow from the job)
-- ARGV  nonce of this call, then a job as lib/queueing.lua reads it
-- returns  1 written; 2 this very call had written it; 0 a job with this id has
--          not ended: nothing written; -1 the key holds something that is no job
--
-- A job that ended is replaced. Refused when memory is full: only what drains
-- may go on then.

local nonce = arg()
local job = read_job()
local key = K.job .. job.id

local row = redis.pcall('HMGET', key, 'status', 'tq_nonce', 'origin')
if row.err then return -1 end
if row[1] then
  if row[2] == nonce then return 2 end
  local status = row[1]
  if status ~= 'finished' and status ~= 'failed' and status ~= 'canceled'
    and status ~= 'stopped' then return 0 end
  local queue = row[3] or job.queue
  redis.call('DEL', key, K.results .. job.id)
  redis.call('ZREM', K.finished .. queue, job.id)
  redis.call('ZREM', K.failed .. queue, job.id)
  redis.call('ZREM', K.canceled .. queue, job.id)
end

extend(job.fields, {'tq_nonce', nonce})
write_job(job)
return 1
