-- Leases: members of RQ's set of running jobs, "<id>:<execution>".

-- Execution ids have no colon, ids of plain rq jobs might.
local function split(member)
  return string.match(member, '^(.*):([^:]*)$')
end

-- The right to end an execution: true once, false for everyone after.
local function take_lease(id, queue, execution)
  return redis.call('ZREM', K.wip .. queue, id .. ':' .. execution) == 1
end

local function drop_execution(id, execution)
  redis.call('DEL', K.execution .. id .. ':' .. execution, K.executions .. id)
end

-- The same for many, each with id, queue and execution, in as few commands.
-- Records of who lost his are another's by now.
-- returns for each whether the lease was taken
local function take_leases(ends)
  if #ends == 1 then
    local id, execution = ends[1].id, ends[1].execution
    local is_taken = take_lease(id, ends[1].queue, execution)
    if is_taken then drop_execution(id, execution) end
    return {is_taken}
  end
  local members, taken, records = {}, {}, {}
  for _, ended in ipairs(ends) do
    local member = ended.id .. ':' .. ended.execution
    local of_queue = members[ended.queue] or {}
    members[ended.queue] = of_queue
    of_queue[#of_queue + 1] = member
    ended.member_at = #of_queue
  end
  local scores = {}
  for queue, of_queue in pairs(members) do
    scores[queue] = redis.call('ZMSCORE', K.wip .. queue, unpack(of_queue))
  end
  -- None is taken before all are known to be leases.
  for queue, of_queue in pairs(members) do
    redis.call('ZREM', K.wip .. queue, unpack(of_queue))
  end
  for i, ended in ipairs(ends) do
    taken[i] = scores[ended.queue][ended.member_at] and true or false
    if taken[i] then
      extend(records, {K.execution .. ended.id .. ':' .. ended.execution,
        K.executions .. ended.id})
    end
  end
  if #records > 0 then redis.call('DEL', unpack(records)) end
  return taken
end
