-- Count what a run has cost on a day: from the least of its totals that were reported of that day to the greatest.
-- KEYS: what the day has cost. ARGV: run id, its total before and after, ms that the day is kept.
local low, high, counted = tonumber(ARGV[2]), tonumber(ARGV[3]), 0
local known_low, known_high = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (%d+)$')
if known_low then
  counted = known_high - known_low
  low, high = math.min(low, known_low), math.max(high, known_high)
end
redis.call('HSET', KEYS[1], ARGV[1], int(low) .. ' ' .. int(high))
redis.call('HINCRBY', KEYS[1], '', int(high - low - counted))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'ok'
