-- Store how executions ended. Needs clock, args, telling, leases, ending.

-- Few ends enqueue jobs: what sees to those is made where one does.
local made

local function linking()
  if made then return made end
-- include: queueing linking
  made = {read_links = read_links, enqueue_links = enqueue_links}
  return made
end

-- How an end is given: id, queue, execution, status (finished, failed, stopped); worker
-- ('' where nothing is known of the execution), RQ's type of result, seconds it took, when
-- it began and ended; counted list of stream pairs; 0, or 1 and a counted list of hash
-- pairs and the number of jobs to enqueue, each as lib/queueing.lua reads it.
local function read_end()
  local ended = {
    id = arg(), queue = arg(), execution = arg(), status = arg(), worker = arg(),
    kind = arg(), seconds = arg(), began = arg(), over = arg(), entry = list(),
  }
  if ended.worker == '' then ended.worker = nil end
  if arg() == '1' then
    ended.fields = list()
    local links = count()
    if links > 0 then ended.links = linking().read_links(links) end
  end
  return ended
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
  for _, ended in ipairs(accepted) do
    if ended.links then linking().enqueue_links(ended) end
  end
  return codes
end

local function store_end(ended)
  return store_ends({ended})[1]
end
