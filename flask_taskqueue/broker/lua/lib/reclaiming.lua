-- The answer to a call for jobs that is repeated. Needs leases.

-- What an earlier, unanswered call of these execution ids claimed, in its order.
local function claimed_before(call)
  local found = {}
  for _, queue in ipairs(call.queues) do
    for _, member in ipairs(redis.call('ZRANGE', K.wip .. queue, 0, -1)) do
      local id, execution = split(member)
      if id and string.sub(execution, 1, #call.prefix) == call.prefix then
        local position = (tonumber(string.sub(execution, #call.prefix + 1)) or 0) - call.first
        local stored = redis.pcall('HGETALL', K.job .. id)
        if position >= 0 and position < call.most and not stored.err then
          found[#found + 1] = {position, {id, queue, execution, stored}}
        end
      end
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  local jobs = {}
  for i, each in ipairs(found) do jobs[i] = each[2] end
  return jobs
end
