-- Add what a process has counted, and note its levels. KEYS: counts, the number of the process's last report, levels.
-- ARGV: process, number of the report, how long the number is remembered (ms), how long its levels count (ms), JSON of
-- them or '', then names and amounts...
-- Returns 'ok', or 'known' where a report of this number, or a later one, was made: then nothing changes.
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[2]) then
  return 'known'
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
for i = 6, #ARGV, 2 do
  redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1])
end
if ARGV[5] == '' then
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('HSET', KEYS[3], ARGV[1], int(now_ms() + tonumber(ARGV[4])) .. ' ' .. ARGV[5])
end
local now, last = now_ms(), 0
local levels = redis.call('HGETALL', KEYS[3])
for i = 1, #levels, 2 do
  local till = tonumber(string.match(levels[i + 1], '^%d+'))
  if till <= now then
    redis.call('HDEL', KEYS[3], levels[i])
  end
  last = math.max(last, till)
end
if last > now then
  redis.call('PEXPIRE', KEYS[3], int(last - now))
end
return 'ok'
