-- What was counted is lost; up.sql begins anew.
DELETE FROM feed_consumers WHERE consumer = 'stats';
DROP TABLE counted_alerts, standings, roll_ups;
