-- Put steps into the ready set of a queue, each once. KEYS: ready set, owners' places, what was served.
-- ARGV: owner, class (0 is the most urgent), ms that the keys stay, steps... A score is the class and the place in it, by
-- start-time fair queuing as in rates.lua.
local class = tonumber(ARGV[2])
local base = class * 1e12
local owner = ARGV[2] .. ':' .. ARGV[1]
if redis.call('ZCARD', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2])
end
local served = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or '0')
for i = 4, #ARGV do
  if not redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    local place = math.max(served, tonumber(redis.call('ZSCORE', KEYS[2], owner) or '0') - base)
    redis.call('ZADD', KEYS[2], int(base + place + 1), owner)
    redis.call('ZADD', KEYS[1], int(base + place), ARGV[i])
  end
end
redis.call('HSETNX', KEYS[3], ARGV[2], '0')
for i = 1, 3 do
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
return 'ok'
