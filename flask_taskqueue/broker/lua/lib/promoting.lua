-- Move due jobs from RQ's scheduled set to their queue, in order of due time.
-- Needs clock, args, queueing, telling, leases, ending, quarantining.

-- One token for all our workers keeps RQ's own scheduler out: it reads due ids, then
-- their hashes, and enqueues what it has read later, when we may have run it.
local TOKEN = 'flask-taskqueue'

-- Seconds the lock lasts: over two sweeps of an idle worker, and more than twice as
-- long as RQ's, for is_over() to tell by it.
local HELD = 150

-- Seconds RQ's lock, and its scheduler's record, last after its last sign of life.
local RQ_LOCK_KEPT = 61

-- Seconds within which a scheduler that keeps no record ends its pass.
local UNRECORDED_PASS = 10

local function lock_of(queue)
  local owner = redis.pcall('GET', K.scheduler_lock .. queue)
  return type(owner) == 'string' and owner
end

local function hold_lock(queue)
  redis.call('SET', K.scheduler_lock .. queue, TOKEN, 'EX', HELD)
end

local function last_sign(scheduler)
  local at = redis.pcall('HGET', K.scheduler .. scheduler, 'last_heartbeat')
  return type(at) == 'string' and at or ''
end

-- Take the lock from RQ's scheduler. It looks at it before each pass (rq 2.11 and
-- later) and drops the queue, but one may be on its way: until that is over, the
-- value says "TOKEN <wait until> <last sign of life> <scheduler>".
local function take_over(queue, scheduler)
  local last_sign_seen = last_sign(scheduler)
  local pass = last_sign_seen == '' and UNRECORDED_PASS or RQ_LOCK_KEPT
  redis.call('SET', K.scheduler_lock .. queue,
    table.concat({TOKEN, seconds(now + pass), last_sign_seen, scheduler}, ' '), 'EX', HELD)
end

local function being_taken_over(owner)
  if string.sub(owner, 1, #TOKEN + 1) ~= TOKEN .. ' ' then return nil end
  return string.match(owner, ' (%S+) (%S*) (.*)$')
end

-- Whether nothing of a pass can come any more. A sign of life is given together with
-- the look at the lock; a record is gone after an orderly stop, or 61 s after the
-- last sign of one that was killed or hangs: its lock would have lasted as long.
local function is_over(queue, wait_until, last_sign_seen, scheduler)
  local left = (tonumber(wait_until) or 0) - now
  local over = left <= 0
    or last_sign_seen ~= '' and last_sign(scheduler) ~= last_sign_seen
  local set_back = left > RQ_LOCK_KEPT + 1
  if not over and not set_back then return false end
  -- Before 2.11 it did not look, only prolonged the lock to 61 s: it goes on, and we
  -- wait for its end. The same again where the clock was set back.
  if set_back or redis.call('TTL', K.scheduler_lock .. queue) <= RQ_LOCK_KEPT then
    take_over(queue, scheduler)
    return false
  end
  hold_lock(queue)
  return true
end

-- Whether due jobs may be moved; if not, the name of the scheduler in the way.
local function may_promote(queue)
  local owner = lock_of(queue)
  if not owner or owner == TOKEN then return true end
  local wait_until, last_sign_seen, scheduler = being_taken_over(owner)
  if not wait_until then return false, owner end
  return is_over(queue, wait_until, last_sign_seen, scheduler), scheduler
end

-- Have the lock, or be about to. Returns the name of the scheduler in the way, or nil.
local function claim_lock(queue)
  local free, scheduler = may_promote(queue)
  if free then
    hold_lock(queue)
    return nil
  end
  if not being_taken_over(lock_of(queue)) then take_over(queue, scheduler) end
  return scheduler
end

-- Returns jobs moved, milliseconds to the next due time or -1.
local function promote(queue, most)
  if not may_promote(queue) then return 0, -1 end
  local set = K.scheduled .. queue
  local due = redis.pcall('ZRANGE', set, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, most)
  local moved, waiting, urgent = 0, 0, {}
  for _, id in ipairs(due) do
    local row = redis.pcall('HMGET', K.job .. id, 'status', 'enqueue_at_front',
      'enqueue_at_front_on_retry', 'tq_entry')
    if row.err then
      redis.call('ZREM', set, id)
      quarantine(id, queue, 'the job is not stored as a hash')
    elseif row[1] == 'scheduled' and not row[4] then
      redis.call('ZREM', set, id)
      redis.call('HSET', K.job .. id, 'status', 'queued', 'enqueued_at', stamp(now))
      if row[2] == '1' or row[3] == '1' then
        urgent[#urgent + 1] = id
      else
        push(queue, id, false)
      end
      moved = moved + 1
    elseif row[1] or now - redis.call('ZSCORE', set, id) > 60 then
      redis.call('ZREM', set, id)
    else
      -- Plain RQ adds the id before it writes the hash: wait for that.
      waiting = waiting + 1
    end
  end
  -- The front fills from behind.
  for i = #urgent, 1, -1 do push(queue, urgent[i], true) end
  local head = redis.pcall('ZRANGE', set, waiting, waiting, 'WITHSCORES')
  if not head[2] then return moved, waiting > 0 and 1000 or -1 end
  -- Behind so many there may be due ones: not to be asked for without a pause.
  if waiting == tonumber(most) then return moved, 1000 end
  return moved, math.max(0, math.ceil((tonumber(head[2]) - now) * 1000))
end
