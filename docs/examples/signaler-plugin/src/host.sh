# shellcheck shell=sh
# Joins the client in directory $1 to the MQTT broker at $4, port $5: its events after number $2 go out on the topic
# $3/events, a line each, and lines that come in on $3/orders are orders to it.
set -u
directory=$1 after=$2 topic=$3 broker=$4 port=$5
for program in mosquitto_sub mosquitto_pub; do
    command -v "$program" >/dev/null || { echo "$program is not installed (mosquitto-clients)" >&2; exit 1; }
done
cd "$directory" && rm -f orders events && mkfifo -m 600 orders events || exit

# -c -x: a session that the broker keeps for a day, with the orders that come while nobody listens.
set -- -V 5 -h "$broker" -p "$port" -q 1 -k 10 -c -x 86400 -i "$(echo "$topic" | tr / -)-host" -t "$topic/orders"
# Makes the session and ends: from here on no order is lost, whoever is slow.
mosquitto_sub "$@" -E || exit
{
    mosquitto_sub "$@" >orders &
    sub=$!
    # The broker says the last words for it when it is killed, or the host is silent for longer than 15 s.
    mosquitto_pub -V 5 -h "$broker" -p "$port" -q 1 -k 10 -l -t "$topic/events" --will-topic "$topic/events" \
        --will-qos 1 --will-payload "end: the broker hears nothing of the host any more" <events &
    pub=$!
    (./autoprof-client attach "$directory" "$after" <orders 2>&1; echo "end: exit status $?") >events
    kill $sub
    # What was said last may take a while, and must not take for ever where the broker is gone.
    for _ in 1 2 3 4 5; do
        kill -0 $pub || break
        sleep 1
    done
    kill $pub
} </dev/null >/dev/null 2>&1 &
