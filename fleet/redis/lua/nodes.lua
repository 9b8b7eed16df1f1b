return { state(), redis.call('HGETALL', fleet) }
