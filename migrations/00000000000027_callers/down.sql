-- All principals and API keys are lost.
DROP TABLE api_keys;
DROP TABLE principals;
