#!lua flags=allow-oom
-- include: clock args queueing telling leases ending claiming
-- Store how executions ended, then claim the next job in the same call.
--
-- KEYS  none (they follow from what is read)
-- ARGV  number of ended executions, for each: id, queue, execution, status
--       (finished, failed, stopped), counted list of hash pairs, counted list of
--       stream pairs, number of jobs to enqueue, each as lib/queueing.lua reads it;
--       then 0, or 1 and a claim as lib/claiming.lua reads it
-- returns  {codes, job or nil, again, notes}; a code is 1 stored, 2 this
--          execution had stored it before, 0 refused: it has lost its lease

local codes = {}
for i = 1, count() do
  local id, queue, execution, status = arg(), arg(), arg(), arg()
  local fields, entry, links = list(), list(), {}
  for j = 1, count() do links[j] = read_job() end
  if take_lease(id, queue, execution) then
    drop_execution(id, execution)
    end_job(id, queue, status, fields, entry)
    for _, link in ipairs(links) do
      -- One that ended belongs to an earlier life of this job.
      local row = redis.pcall('HMGET', K.job .. link.id, 'status', 'origin')
      if not row.err and make_room(link.id, row[1], row[2] or link.queue) then
        write_job(link)
      end
    end
    codes[i] = 1
  else
    local row = redis.pcall('HMGET', K.job .. id, 'tq_execution', 'status')
    codes[i] = (not row.err and row[1] == execution and row[2] == status) and 2 or 0
  end
end

if count() == 0 then return {codes, false, 0, {}} end
local job, again, notes = claim(read_claim())
return {codes, job, again, notes}
