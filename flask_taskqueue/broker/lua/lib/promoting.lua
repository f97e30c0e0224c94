-- Move due jobs from RQ's scheduled set to their queue, in order of due time.
-- Needs clock, args, queueing, telling, leases, ending, claiming (quarantine).

-- One token for all our workers keeps RQ's own scheduler out: it enqueues from
-- a snapshot that is stale by then.
local TOKEN = 'flask-taskqueue'

local function hold_scheduler_lock(queue)
  local key = K.scheduler_lock .. queue
  local owner = redis.call('GET', key)
  if not owner or owner == TOKEN then redis.call('SET', key, TOKEN, 'EX', 61) end
end

-- returns jobs moved, milliseconds to the next due time or -1
local function promote(queue, most)
  local set = K.scheduled .. queue
  local due = redis.pcall('ZRANGE', set, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, most)
  local moved, waiting = 0, 0
  for _, id in ipairs(due) do
    local row = redis.pcall('HMGET', K.job .. id, 'status', 'enqueue_at_front',
      'enqueue_at_front_on_retry')
    if row.err then
      redis.call('ZREM', set, id)
      quarantine(id, queue, 'the job is not stored as a hash')
    elseif row[1] == 'scheduled' then
      redis.call('ZREM', set, id)
      redis.call('HSET', K.job .. id, 'status', 'queued', 'enqueued_at', stamp(now))
      push(queue, id, row[2] == '1' or row[3] == '1')
      moved = moved + 1
    elseif row[1] or now - redis.call('ZSCORE', set, id) > 60 then
      redis.call('ZREM', set, id)
    else
      -- Plain RQ adds the id before it writes the hash: wait for that.
      waiting = waiting + 1
    end
  end
  local head = redis.pcall('ZRANGE', set, waiting, waiting, 'WITHSCORES')
  if not head[2] then return moved, waiting > 0 and 1000 or -1 end
  hold_scheduler_lock(queue)
  -- Behind so many there may be due ones: not to be asked for without a pause.
  if waiting == tonumber(most) then return moved, 1000 end
  return moved, math.max(0, math.ceil((tonumber(head[2]) - now) * 1000))
end
