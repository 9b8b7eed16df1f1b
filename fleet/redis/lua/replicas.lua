-- How many replicas the server of the log has.
-- KEYS: the hash with the list of nodes, the stream, by which a Cluster finds that server.
return tonumber(string.match(redis.call('INFO', 'replication'), 'connected_slaves:(%d+)') or '0')
