#!lua
-- include: clock args queueing entries
-- Enqueue a job of an entry now, whatever its next time is, which stays.
--
-- KEYS  none (they follow from the entry and the job)
-- ARGV  id of the entry, nonce of this call, then a job as lib/queueing.lua reads it
-- returns  1 this very call wrote it, now or before, 2 there is another job of this id:
--          nothing is written, 0 there is no such entry, -1 a key holds something else
--
-- Refused when memory is full, as enqueue is.

local DONE, DONE_BEFORE, NO_ENTRY, NOT_A_JOB = 1, 2, 0, -1

local id, nonce, job = arg(), arg(), read_job()
local row = redis.pcall('HMGET', K.entry .. id, 'fingerprint', 'count', 'app')
if row.err then return NOT_A_JOB end
if not row[1] then return NO_ENTRY end
local known = redis.pcall('HMGET', K.job .. job.id, 'status', 'tq_nonce')
if known.err then return NOT_A_JOB end
if known[2] == nonce then return DONE end
if known[1] then return DONE_BEFORE end
extend(job.fields, {'tq_nonce', nonce})
if not write_job(job) then return NOT_A_JOB end
note_job(id, row[2], job.id)
add_row(id, now, job.id, 'triggered')
tell_entries(row[3] or '')
return DONE
