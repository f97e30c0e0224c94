-- Store how executions ended. Needs clock, args, queueing, telling, leases, ending.

-- How an end is given: id, queue, execution, status (finished, failed, stopped),
-- counted list of hash pairs, counted list of stream pairs, number of jobs to enqueue,
-- each as lib/queueing.lua reads it.
local function read_end()
  local ended = {
    id = arg(), queue = arg(), execution = arg(), status = arg(), fields = list(),
    entry = list(), links = {},
  }
  for i = 1, count() do ended.links[i] = read_job() end
  return ended
end

local function enqueue_links(ended)
  for _, link in ipairs(ended.links) do
    -- One that ended belongs to an earlier life of this job.
    local row = redis.pcall('HMGET', K.job .. link.id, 'status', 'origin')
    if not row.err and make_room(link.id, row[1], row[2] or link.queue) then
      write_job(link)
    end
  end
end

-- 2 this execution had stored it before, 0 it has lost its lease
local function refused(ended)
  local row = redis.pcall('HMGET', K.job .. ended.id, 'tq_execution', 'status')
  return (not row.err and row[1] == ended.execution and row[2] == ended.status) and 2 or 0
end

-- returns for each 1 stored, 2 this execution had stored it before, 0 refused: it has
-- lost its lease
local function store_ends(ends)
  local codes, accepted = {}, {}
  for i, is_taken in ipairs(take_leases(ends)) do
    if is_taken then accepted[#accepted + 1] = ends[i] end
    codes[i] = is_taken and 1 or refused(ends[i])
  end
  if #accepted > 0 then end_jobs(accepted) end
  for _, ended in ipairs(accepted) do enqueue_links(ended) end
  return codes
end

local function store_end(ended)
  return store_ends({ended})[1]
end
