-- Count a run as active that is about to be made, where its owner's quota allows that.
-- KEYS: the owner's active runs, what the day has cost. ARGV: run id, how many may be active, how much a day may cost ('' for
-- no bound). Returns 'admitted' (also where the run counts already), or which bound is used up.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 'admitted'
end
if ARGV[2] ~= '' and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 'active_runs'
end
if ARGV[3] ~= '' and tonumber(redis.call('HGET', KEYS[2], '') or '0') >= tonumber(ARGV[3]) then
  return 'cost_per_day'
end
redis.call('ZADD', KEYS[1], int(now_ms()), ARGV[1])
return 'admitted'
