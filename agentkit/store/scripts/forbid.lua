-- Take the id of a run that is not there, so that nobody makes it. KEYS: run, the mark that it was deleted.
-- ARGV: ms that the mark stays. Returns 'there' or 'ok'.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'there'
end
redis.call('SET', KEYS[2], '', 'PX', ARGV[1])
return 'ok'
