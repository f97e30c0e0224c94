-- A job that cannot run, kept for a look.
local function quarantine(id, queue, reason)
  if redis.call('TYPE', K.job .. id).ok == 'hash' then
    end_job(id, queue, 'failed', {
      'origin', queue, 'tq_error', error_text('DecodeError', reason)}, {})
  else
    redis.call('ZADD', K.failed .. queue, seconds(now + 31536000), id)
  end
  return {'quarantined', id, queue, reason}
end
