-- Have a run checked at ARGV[2] or before. KEYS: due. ARGV: run id, time.
-- The score is a quarter of a ms before that, and ends in .75, that of a taken run in .5 or .25 (take.lua): so its taker
-- learns that it was scheduled since.
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 'inf')
redis.call('ZADD', KEYS[1], int(math.min(math.ceil(score), tonumber(ARGV[2])) - 1) .. '.75', ARGV[1])
return 'ok'
