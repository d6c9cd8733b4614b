DROP TABLE network_memories, user_memories;
