-- Take the next jobs that may run. Needs clock, args, queueing, telling, leases, ending.

local DEAD_PER_CALL = 100
local ID_MOST = 1000
local STATUSES = {
  created = true, queued = true, finished = true, failed = true, started = true,
  deferred = true, scheduled = true, stopped = true, canceled = true,
}

-- How a call to claim is given: worker, beginning of the execution ids, number of the
-- first, most jobs, 1 = none of them is about to run, lease in seconds, 1 = this call is
-- repeated after a lost reply, counted list of queues.
local function read_claim()
  return {
    worker = arg(), prefix = arg(), first = count(), most = count(),
    ahead = arg() == '1', lease = count(), again = arg() == '1', queues = list(),
  }
end

-- What is read of a job: first what decides here whether it may run.
-- wire.py has the same names, in the same order.
local STATUS, EXECUTION, EXPIRES, ENDED_MARK, ENDED_AT, REVOKED, ENTRY, TTL, ORIGIN, TASK,
  RECOVERIES, ON_LOST = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

local function read_job_row(id)
  return redis.pcall('HMGET', K.job .. id, CLAIMED_FIELDS)
end

-- A job that cannot run, kept for a look.
local function quarantine(id, queue, reason)
  if redis.call('TYPE', K.job .. id).ok == 'hash' then
    end_job(id, queue, 'failed', {
      'origin', queue, 'tq_error', error_text('DecodeError', reason)}, {})
  else
    redis.call('ZADD', K.failed .. queue, seconds(now + 31536000), id)
  end
  return {'quarantined', id, queue, reason}
end

local function had_ended(row)
  return row[ENDED_MARK] or row[ENDED_AT] and row[ENDED_AT] ~= ''
end

-- Why an id from a queue is not run: a note for the worker's log, false where
-- the entry is only stale, nil where it may run.
local function refusal(id, queue, row)
  if row.err then return quarantine(id, queue, 'the job is not stored as a hash') end
  local status, execution = row[STATUS], row[EXECUTION]
  -- What rq-scheduler shows for an entry of beat is no job.
  if row[ENTRY] then return false end
  if not status then
    if redis.call('EXISTS', K.job .. id) == 0 then return false end
    return quarantine(id, queue, 'the job has no status')
  end
  if not STATUSES[status] then
    return quarantine(id, queue, 'the job has an unknown status')
  end
  if #id > ID_MOST or string.find(id, '[^\33-\126]') then
    return quarantine(id, queue, 'the id is too long, or not in printable characters')
  end
  if status ~= 'queued' then return false end
  if execution and redis.call('ZSCORE', K.wip .. queue, id .. ':' .. execution) then
    return false
  end
  -- Of a job that had ended and was requeued the mark is an old one.
  if row[REVOKED] and not had_ended(row) then
    end_revoked(id, queue, 'revoked')
    return {'revoked', id, queue, ''}
  end
  local expires = row[EXPIRES] and tonumber(row[EXPIRES])
  if expires and expires <= now then
    end_revoked(id, queue, 'expired')
    return {'expired', id, queue, ''}
  end
end

-- What a worker may lose is not to take others with it; and what plain rq promises
-- around its jobs takes time after their end.
local function runs_alone(row)
  return row[RECOVERIES] and row[RECOVERIES] ~= '0' or row[ON_LOST] == 'fail'
    or not row[TASK]
end

-- It had ended and somebody requeued it: a new life with full counts.
local function renew_life(id)
  local key = K.job .. id
  redis.call('HDEL', key, 'tq_ended', 'tq_retries', 'tq_recoveries', 'tq_recovered_at',
    'tq_error', 'tq_state', 'tq_info', 'tq_sig_info', 'tq_revoked', 'tq_children',
    'tq_ignored')
  redis.call('HSET', key, 'ended_at', '')
  redis.call('PERSIST', key)
  return read_job_row(id)
end

-- Only the first is about to run. One without a time of its start was claimed ahead:
-- nobody is charged for its loss.
local function begin(id, queue, row, call, position)
  local starts = position == 1 and not call.ahead
  local key, execution = K.job .. id, call.prefix .. (call.first + position - 1)
  if had_ended(row) then
    row = renew_life(id)
  elseif row[TTL] then
    redis.call('PERSIST', key)
  end
  redis.call('HSET', key, 'status', 'started', 'started_at',
    starts and stamp(now) or '', 'worker_name', call.worker, 'tq_execution',
    execution)
  if row[ORIGIN] ~= queue then redis.call('HSET', key, 'origin', queue) end
  row[STATUS], row[EXECUTION], row[ORIGIN] = 'started', execution, queue
  if starts then tell(id) end
  if not row[TASK] then
    -- What RQ reads of its own jobs is RQ's to know.
    return {id, queue, execution, redis.call('HGETALL', key), 1}
  end
  return {id, queue, execution, row}
end

-- What an earlier, unanswered call of these execution ids claimed, in its order.
local function claimed_before(call)
  local found = {}
  for _, queue in ipairs(call.queues) do
    for _, member in ipairs(redis.call('ZRANGE', K.wip .. queue, 0, -1)) do
      local id, execution = split(member)
      if id and string.sub(execution, 1, #call.prefix) == call.prefix then
        local position = (tonumber(string.sub(execution, #call.prefix + 1)) or 0) - call.first
        local row = read_job_row(id)
        if position >= 0 and position < call.most and not row.err then
          local job = {id, queue, execution, row}
          if not row[TASK] then
            job = {id, queue, execution, redis.call('HGETALL', K.job .. id), 1}
          end
          found[#found + 1] = {position, job}
        end
      end
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  local jobs = {}
  for i, each in ipairs(found) do jobs[i] = each[2] end
  return jobs
end

-- A queue key of another type is an empty queue here, not an aborted script.
-- returns ids, and the list they were in
local function take(queue, most)
  -- Aborts where something else is there, before an id is popped that could be lost.
  redis.call('ZCARD', K.wip .. queue)
  for _, key in ipairs({K.ready .. queue, K.queue .. queue}) do
    local ids = redis.pcall('LPOP', key, most)
    if ids and not ids.err then return ids, key end
  end
end

-- Claim of ids just taken; what is not claimed goes back, in order.
-- returns jobs, how many were dropped, whether one is left that is to be claimed alone
local function claim_taken(call, queue, ids, source, notes)
  local jobs, leases, dead, alone = {}, {}, 0, false
  local ends = seconds(now + call.lease + 86400)
  for i, id in ipairs(ids) do
    local row = read_job_row(id)
    local note = refusal(id, queue, row)
    if note == nil then
      alone = runs_alone(row)
      -- One that is to run alone is not claimed while others run, either.
      if not (alone and (#jobs > 0 or call.ahead)) then
        local job = begin(id, queue, row, call, #jobs + 1)
        jobs[#jobs + 1] = job
        extend(leases, {ends, id .. ':' .. job[3]})
        i = i + 1
      end
      if alone then
        for j = #ids, i, -1 do redis.call('LPUSH', source, ids[j]) end
        break
      end
    else
      dead = dead + 1
      if note then notes[#notes + 1] = note end
    end
  end
  if #jobs > 0 then redis.call('ZADD', K.wip .. queue, unpack(leases)) end
  return jobs, dead, alone
end

-- Seconds nobody else gets a killed job's hooks; the slot itself stops before that.
local AFTERMATH_LEASE = 180

-- Slots that begin with a killed job's hooks before it is given up: they may be what
-- kills processes.
local AFTERMATH_TRIES = 3

-- A note for the slot that is to call a killed job's hooks, one about a job that is
-- given up, or nil: they were called, or it is gone, or it was started again since.
local function aftermath_of(queue)
  local set = K.aftermath_of .. queue
  local member = redis.call('ZRANGE', set, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, 1)[1]
  if not member then return nil end
  local id, execution = split(member)
  local row = redis.pcall('HMGET', K.job .. id, 'tq_execution', 'tq_aftermath')
  local tries = number(row[2], 0) + 1
  if row[1] == execution and tries <= AFTERMATH_TRIES then
    redis.call('HSET', K.job .. id, 'tq_aftermath', tries)
    redis.call('ZADD', set, seconds(now + AFTERMATH_LEASE), member)
    return {'aftermath', id, queue, execution}
  end
  redis.call('ZREM', set, member)
  if row[1] ~= execution then return nil end
  return {'given up', id, queue,
    'on its hooks: they were begun ' .. AFTERMATH_TRIES .. ' times and did not end'}
end

-- Whether the call's slot is to call a killed job's hooks, and not to take a job: such
-- one could be charged with them. One that runs jobs asks again when they have ended.
local function has_aftermath(call, notes)
  if call.ahead then
    for _, queue in ipairs(call.queues) do
      local due = redis.call('ZCOUNT', K.aftermath_of .. queue, '-inf', seconds(now))
      if due > 0 then return true end
    end
    return false
  end
  for _, queue in ipairs(call.queues) do
    local note = aftermath_of(queue)
    if note then notes[#notes + 1] = note end
    if note and note[1] == 'aftermath' then return true end
    if redis.call('EXISTS', K.aftermath_of .. queue) == 0 then
      redis.call('SREM', K.aftermath, queue)
    end
  end
  return false
end

-- returns jobs, 1 = call again (more is there) or 2 = held back (a queue is
-- paused, or all are suspended), notes
local function claim(call)
  local notes = {}
  if call.again then
    local jobs = claimed_before(call)
    if #jobs > 0 then return jobs, 0, notes end
  end
  local paused = false
  if redis.call('EXISTS', K.suspended, K.paused, K.aftermath) > 0 then
    if redis.call('EXISTS', K.suspended) == 1 then return {}, 2, notes end
    if has_aftermath(call, notes) then return {}, 1, notes end
    paused = redis.call('EXISTS', K.paused) == 1
  end
  local dead = 0
  for _, queue in ipairs(call.queues) do
    if not (paused and redis.call('SISMEMBER', K.paused, queue) == 1) then
      local ids, source = take(queue, call.most)
      while ids do
        local jobs, dropped, alone = claim_taken(call, queue, ids, source, notes)
        if #jobs > 0 then return jobs, 0, notes end
        if alone then return jobs, 1, notes end
        dead = dead + dropped
        if dead >= DEAD_PER_CALL then return {}, 1, notes end
        ids, source = take(queue, call.most)
      end
    end
  end
  return {}, paused and 2 or 0, notes
end
