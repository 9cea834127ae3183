-- Have a run checked at ARGV[2] or before. KEYS: due. ARGV: run id, time.
-- A taken run's score ends in .5 (take.lua); writing a whole number tells its taker that it was scheduled since.
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 'inf')
redis.call('ZADD', KEYS[1], int(math.floor(math.min(score, tonumber(ARGV[2])))), ARGV[1])
return 'ok'
