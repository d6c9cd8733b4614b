-- Display names, chosen types, trust and revocations are lost. The rest can be made again from user_sessions.
DROP TABLE devices;
