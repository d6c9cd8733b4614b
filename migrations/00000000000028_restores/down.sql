-- What is left to end after a restore is lost.
DROP TABLE database_restores;
DROP TABLE database_position;
