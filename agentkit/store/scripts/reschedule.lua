-- Say when a taken run is checked again. KEYS: due. ARGV: run id, mark, time ('': never).
-- One that was scheduled since, or taken by another, is checked then or before, and nothing more.
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]))
local at = tonumber(ARGV[3])
if score and score == tonumber(ARGV[2]) then
  if at then
    redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
  else
    redis.call('ZREM', KEYS[1], ARGV[1])
  end
elseif score and at and at < score then
  redis.call('ZADD', KEYS[1], int(at - 1) .. '.75', ARGV[1])
end
return 'ok'
