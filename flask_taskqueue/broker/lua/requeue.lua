#!lua
-- include: clock args queueing telling requeueing
-- Give a job that ended a new life, at the end of its queue.
--
-- KEYS  none (they follow from the job)
-- ARGV  id, nonce of this call
-- returns  1 it waits again, 2 it has not ended, 0 there is no such job, -1 the key
--          holds something that is no job
--
-- Refused when memory is full, as enqueue is: only what drains may go on then.

local id, nonce = arg(), arg()
return requeue(id, nonce)
