#!lua
-- include: clock args queueing
-- Write a job and put it where it waits.
--
-- KEYS  none (they follow from the job)
-- ARGV  nonce of this call, then a job as lib/queueing.lua reads it
-- returns  1 written; 2 this very call had written it; 0 a job with this id has
--          not ended: nothing written; -1 its key, or its queue's, holds something else
--
-- A job that ended is replaced. Refused when memory is full: only what drains
-- may go on then.

local nonce = arg()
local job = read_job()

local row = redis.pcall('HMGET', K.job .. job.id, 'status', 'tq_nonce', 'origin',
  'tq_entry')
if row.err or row[4] then return -1 end
if row[2] == nonce then return 2 end
if not make_room(job.id, row[1], row[3] or job.queue) then return 0 end
extend(job.fields, {'tq_nonce', nonce})
return write_job(job) and 1 or -1
