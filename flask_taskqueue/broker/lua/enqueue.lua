#!lua
-- include: clock
-- Write jobs and put each where it waits.
--
-- KEYS  none (they follow from the jobs)
-- ARGV  number of jobs, at most some thousands; for each the nonce of this call, then
--       8, id, queue, the values of COLUMNS in broker/wire.py and a counted list of
--       more field, value pairs; or 0 and a job as lib/queueing.lua reads it
-- returns  for each 1 written; 2 this very call had written it; 0 a job with this id has
--          not ended: nothing written; -1 its key, or its queue's, holds something else
--
-- A job that ended is replaced. Refused when memory is full: only what drains
-- may go on then.

local WRITTEN, WRITTEN_BEFORE, EXISTS, NOT_A_JOB = 1, 2, 0, -1
local written_at = stamp(now)

-- The hash of a job that is in its queue; its columns begin after ARGV[at].
local function write_columns(id, queue, nonce, at, ...)
  redis.call('HSET', K.job .. id, 'data', ARGV[at + 1], 'description', ARGV[at + 2],
    'timeout', ARGV[at + 3], 'result_ttl', ARGV[at + 4], 'failure_ttl', ARGV[at + 5],
    'tq_task', ARGV[at + 6], 'tq_content', ARGV[at + 7], 'tq_options', ARGV[at + 8],
    'tq_nonce', nonce, 'status', 'queued', 'origin', queue, 'created_at', written_at,
    'enqueued_at', written_at, ...)
end

-- One new job, by far the most frequent call: done before the functions below are
-- made, which takes longer.
if ARGV[1] == '1' and ARGV[3] == '8' and redis.call('EXISTS', K.job .. ARGV[4]) == 0 then
  local id, queue = ARGV[4], ARGV[5]
  if type(redis.pcall('RPUSH', K.queue .. queue, id)) == 'number' then
    redis.call('SADD', K.queues, K.queue .. queue)
    write_columns(id, queue, ARGV[2], 5, unpack(ARGV, 15))
    return {WRITTEN}
  end
end

-- include: args queueing

local function read_row()
  local nonce, columns = arg(), arg() == '8'
  local job = columns and {id = arg(), queue = arg(), columns = argument} or read_job()
  job.nonce = nonce
  if columns then
    argument = argument + 8
    job.fields = list()
  end
  return job
end

-- Ids for the ends of queues that are known to be ones, to be added in one go.
local tails = {}

local function add_tail(queue)
  local ids = tails[queue]
  if ids and ids[1] then
    redis.call('RPUSH', K.queue .. queue, unpack(ids))
    tails[queue] = {}
  end
end

local function write_row(job)
  if not job.columns then
    add_tail(job.queue)  -- It may come after them.
    extend(job.fields, {'tq_nonce', job.nonce})
    return write_job(job)
  end
  local tail = tails[job.queue]
  if tail then
    tail[#tail + 1] = job.id
  elseif place(job.queue, job.id) then
    tails[job.queue] = {}
  else
    return false
  end
  write_columns(job.id, job.queue, job.nonce, job.columns, unpack(job.fields))
  return true
end

local codes = {}
for i = 1, count() do
  local job = read_row()
  local row = redis.pcall('HMGET', K.job .. job.id, 'status', 'tq_nonce', 'origin',
    'tq_entry')
  if row.err or row[4] then
    codes[i] = NOT_A_JOB
  elseif row[2] == job.nonce then
    codes[i] = WRITTEN_BEFORE
  elseif not make_room(job.id, row[1], row[3] or job.queue) then
    codes[i] = EXISTS
  else
    codes[i] = write_row(job) and WRITTEN or NOT_A_JOB
  end
end

for queue in pairs(tails) do add_tail(queue) end
return codes
