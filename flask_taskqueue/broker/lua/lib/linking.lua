-- The jobs that are enqueued with an end. Needs args, queueing.

local function read_links(size)
  local links = {}
  for i = 1, size do links[i] = read_job() end
  return links
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
