-- What becomes of a job whose execution did not end: given back, recovered, or ended for
-- it. Needs clock, args, queueing, telling, leases, ending.

local function end_lost(id, queue, message, recoveries)
  end_job(id, queue, 'failed', {
    'tq_recoveries', recoveries, 'tq_error', error_text('WorkerLostError', message)}, {})
end

-- Longer than most jobs are kept; what nobody takes goes with its key.
local AFTERMATH_KEPT = 604800

-- The process that ran it is dead: a free slot calls its hooks. Once it ended.
local function leave_aftermath(id, queue, execution)
  local key = K.aftermath_of .. queue
  -- Somebody put something else there: nothing is known of the job.
  if type(redis.pcall('HSET', K.job .. id, 'tq_aftermath', '0')) == 'table' then return end
  redis.call('ZADD', key, seconds(now), id .. ':' .. execution)
  redis.call('EXPIRE', key, AFTERMATH_KEPT)
  redis.call('SADD', K.aftermath, queue)
end

local function to_front(id, queue)
  redis.call('HDEL', K.job .. id, 'tq_state', 'tq_info', 'tq_sig_info')
  redis.call('HSET', K.job .. id, 'status', 'queued', 'started_at', '', 'worker_name', '')
  push(queue, id, true)
  tell(id)
end

-- Back to the front of its queue: no attempt, no recovery. The caller took the
-- lease. started: its function had been called.
-- returns 'given', 'revoked', 'failed' (started, and on_worker_lost is "fail"), or
-- 'gone'
local function give_back(id, queue, execution, started)
  drop_execution(id, execution)
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_revoked', 'tq_on_lost',
    'tq_recoveries')
  if row.err or row[1] ~= 'started' then return 'gone' end
  if row[2] then
    end_revoked(id, queue, 'revoked')
    leave_aftermath(id, queue, execution)
    return 'revoked'
  end
  if started and row[3] == 'fail' then
    end_lost(id, queue, 'the worker was stopped', number(row[4], 0))
    leave_aftermath(id, queue, execution)
    return 'failed'
  end
  to_front(id, queue)
  return 'given'
end

-- A recovery older than this does not count towards the cap.
local RECOVERY_WINDOW = 259200

-- Give a job whose worker was lost to another one, or end it. The caller took the
-- lease. ran: its function is known to have been called. Otherwise the time of its
-- start says so: one that was claimed ahead has none.
-- returns 'requeued', 'given' (not charged), 'failed', 'revoked' or 'gone'
local function recover_job(id, queue, execution, reason, ran)
  drop_execution(id, execution)
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_revoked', 'tq_on_lost',
    'tq_recoveries', 'tq_max_recoveries', 'tq_recovered_at', 'started_at')
  if row.err or row[1] ~= 'started' then return 'gone' end
  if row[2] then
    end_revoked(id, queue, 'revoked')
    leave_aftermath(id, queue, execution)
    return 'revoked'
  end
  if not ran and row[7] == '' then
    to_front(id, queue)
    return 'given'
  end
  local recoveries, cap = number(row[4], 0), number(row[5], 3)
  if now - number(row[6], now) > RECOVERY_WINDOW then recoveries = 0 end
  if row[3] == 'fail' or recoveries >= cap then
    local text = 'worker lost while the job ran: ' .. reason
    if row[3] ~= 'fail' then
      text = text .. ' (' .. (recoveries + 1) .. ' times, max_recoveries is ' .. cap .. ')'
    end
    end_lost(id, queue, text, recoveries + 1)
    leave_aftermath(id, queue, execution)
    return 'failed'
  end
  redis.call('HSET', K.job .. id, 'tq_recoveries', recoveries + 1,
    'tq_recovered_at', seconds(now))
  to_front(id, queue)
  return 'requeued'
end
