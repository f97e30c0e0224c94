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
