-- Take the next jobs that may run. Needs clock, args, telling, leases, ending.

local DEAD_PER_CALL = 100
local ID_MOST = 1000

-- How a call to claim is given: worker, beginning of the execution ids, number of the
-- first, most jobs, 1 = none of them is about to run, lease in seconds, 1 = this call is
-- repeated after a lost reply, counted list of queues.
local function read_claim()
  return {
    worker = arg(), prefix = arg(), first = count(), most = count(),
    ahead = arg() == '1', lease = count(), again = arg() == '1', queues = list(),
  }
end

-- The fields of a job that nothing but enqueue.lua has written, of a task's call that
-- asks for nothing special: all there are.
local ORDINARY = {
  data = true, description = true, timeout = true, result_ttl = true, failure_ttl = true,
  tq_task = true, tq_content = true, tq_options = true, tq_nonce = true, status = true,
  origin = true, created_at = true, enqueued_at = true,
}
local ORDINARY_COUNT = 13

-- Whether nothing speaks against running it: most jobs, and their fields need not
-- be sorted out.
local function is_ordinary(stored, queue)
  if #stored ~= 2 * ORDINARY_COUNT then return false end
  for i = 1, #stored, 2 do
    local name = stored[i]
    if not ORDINARY[name] then return false end
    if name == 'status' and stored[i + 1] ~= 'queued' then return false end
    if name == 'origin' and stored[i + 1] ~= queue then return false end
  end
  return true
end

-- Whether nobody can be asked to deal with such an id.
local function is_odd(id)
  return #id > ID_MOST or string.find(id, '[^\33-\126]')
end

-- What only some calls need is made where it is needed: to make a function takes as long
-- as to call one.
local uncommon

local function rarely()
  if uncommon then return uncommon end
-- include: quarantining refusing
  uncommon = {look = look, runs_alone = runs_alone, make_ready = make_ready}
  return uncommon
end

local function has_hooks_to_call(call, notes)
-- include: aftermath
  return has_aftermath(call, notes)
end

local function what_it_got(call)
-- include: reclaiming
  return claimed_before(call)
end

-- Begin a job. Only the first is about to run: one without a time of its start was
-- claimed ahead, and nobody is charged for its loss.
-- row: its fields by name, nil of an ordinary one
-- returns what the worker gets: id, queue, execution, fields and values
local function begin(id, queue, stored, row, call, position)
  local starts = position == 1 and not call.ahead
  local key, execution = K.job .. id, call.prefix .. (call.first + position - 1)
  local is_changed = row and rarely().make_ready(id, queue, row)
  redis.call('HSET', key, 'status', 'started', 'started_at',
    starts and stamp(now) or '', 'worker_name', call.worker, 'tq_execution',
    execution)
  if starts then tell(id) end
  if is_changed then stored = redis.call('HGETALL', key) end
  return {id, queue, execution, stored}
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
    local stored, row, note = redis.pcall('HGETALL', K.job .. id), nil, nil
    if stored.err or not is_ordinary(stored, queue) or is_odd(id) then
      row, note = rarely().look(id, queue, stored)
    end
    if note == nil then
      alone = row ~= nil and rarely().runs_alone(row)
      -- One that is to run alone is not claimed while others run, either.
      if not (alone and (#jobs > 0 or call.ahead)) then
        local job = begin(id, queue, stored, row, call, #jobs + 1)
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

-- returns jobs, 1 = call again (more is there) or 2 = held back (a queue is
-- paused, or all are suspended), notes
local function claim(call)
  local notes = {}
  if call.again then
    local jobs = what_it_got(call)
    if #jobs > 0 then return jobs, 0, notes end
  end
  local paused = false
  if redis.call('EXISTS', K.suspended, K.paused, K.aftermath) > 0 then
    if redis.call('EXISTS', K.suspended) == 1 then return {}, 2, notes end
    if has_hooks_to_call(call, notes) then return {}, 1, notes end
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
