#!/usr/bin/env python3
"""How long an outage is when the leader is killed, and how long each client waits for an answer meanwhile.

    cargo build --release -p kv
    bench/failover.py [--kv target/release/kv] [--kills 100] [--clients 16] [--election-timeout 500]

Starts three nodes on this machine. Clients add to a counter over HTTP, each under a session of its own, at the two nodes
that do not lead. Again and again the leader is killed by SIGKILL and started again. For each kill it measures

- the outage: from the kill to the end of the longest silence after it, in which no client got an answer;
- the longest wait of each client: of all requests that were under way at the kill or sent in the outage, the longest
  time from sending to the answer, counted from the kill for those that were under way;

and prints both as percentiles, and how far the longest waits go beyond the outage. All answers have to be 200, and at
the end the counter has to be the number of them.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Node:
    def __init__(self, number, cluster):
        self.number, self.cluster = number, cluster
        self.http = cluster.ports[number + 2]
        self.process = None

    def start(self):
        cluster = self.cluster
        command = [cluster.kv, "serve", "--log", "warn"]
        command += ["--data", os.path.join(cluster.folder, str(self.number))]
        command += ["--listen", f"127.0.0.1:{cluster.ports[self.number - 1]}", "--http", f"127.0.0.1:{self.http}"]
        command += ["--election-timeout", str(cluster.election_timeout)]
        log = open(os.path.join(cluster.folder, f"{self.number}.log"), "a")
        self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)

    def ask(self, method, path, body=None, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=timeout)
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")

    def leads(self):
        try:
            return self.ask("GET", "/v1/status", timeout=2)[1]["role"] == "leader"
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False


class Cluster:
    def __init__(self, arguments):
        self.kv, self.election_timeout = arguments.kv, arguments.election_timeout
        self.folder, self.ports = tempfile.mkdtemp(prefix="failover-"), free_ports(6)
        self.nodes = [Node(number, self) for number in (1, 2, 3)]

    def create(self):
        """Starts the nodes, and makes a cluster of them once all of them answer."""
        for node in self.nodes:
            node.start()
        command = [self.kv, "init"] + [f"{n}=127.0.0.1:{self.ports[n - 1]}" for n in (1, 2, 3)]
        end = time.monotonic() + 30
        while (told := subprocess.run(command, capture_output=True, text=True)).returncode:
            if time.monotonic() > end:
                sys.exit(told.stderr)
            time.sleep(0.05)

    def leader(self):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for node in self.nodes:
                if node.leads():
                    return node
            time.sleep(0.02)
        sys.exit("there is no leader")

    def end(self):
        for node in self.nodes:
            if node.process:
                node.process.kill()
                node.process.wait()
        shutil.rmtree(self.folder)


class Client(threading.Thread):
    """Adds 1 again and again, and keeps when each request was sent and answered."""

    def __init__(self, port):
        super().__init__()
        self.port, self.requests, self.stopped, self.bad = port, [], False, []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v1/sessions")
        session = json.loads(connection.getresponse().read())["session"]
        sequence = 1
        while not self.stopped:
            headers = {"Content-Type": "application/json", "Raft-Session": session}
            headers |= {"Raft-Sequence": str(sequence), "Raft-Acknowledge": str(sequence)}
            sent = time.monotonic()
            connection.request("POST", "/v1/kv/n/incr", b"{}", headers)
            answer = connection.getresponse()
            body = answer.read()
            self.requests.append((sent, time.monotonic()))
            if answer.status == 200:
                sequence += 1
            else:
                self.bad.append((answer.status, body.decode()))
        self.done = sequence - 1


def measure(cluster, arguments):
    """One kill: the outage, and the longest wait of each client, in milliseconds."""
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node is not leader]
    clients = [Client(others[number % 2].http) for number in range(arguments.clients)]
    for client in clients:
        client.start()
    time.sleep(0.3)
    killed = time.monotonic()
    leader.process.kill()
    leader.process.wait()
    time.sleep(0.3 + 3 * arguments.election_timeout / 1000)
    for client in clients:
        client.stopped = True
    for client in clients:
        client.join()
    leader.start()
    # The outage ends with the longest silence: answers that were under way at the kill come at once.
    answers = [killed] + sorted(answered for client in clients for _, answered in client.requests if answered > killed)
    back = max(zip(answers, answers[1:]), key=lambda pair: pair[1] - pair[0])[1]
    waits = []
    for client in clients:
        concerned = [(sent, answered) for sent, answered in client.requests if answered > killed and sent < back]
        waits.append(max((answered - max(sent, killed) for sent, answered in concerned), default=0) * 1000)
    bad = [one for client in clients for one in client.bad]
    end = time.monotonic() + 30
    while time.monotonic() < end and not all(ready(node) for node in cluster.nodes):
        time.sleep(0.02)
    return (back - killed) * 1000, waits, bad, sum(client.done for client in clients)


def ready(node):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", node.http, timeout=2)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def show(name, values):
    values = sorted(values)
    at = lambda part: values[min(len(values) - 1, int(part * len(values)))]
    print(f"{name:<34} min {values[0]:7.1f}  p50 {at(.5):7.1f}  p90 {at(.9):7.1f}  p99 {at(.99):7.1f}  max {values[-1]:7.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kv", default="target/release/kv")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--election-timeout", type=int, default=500)
    arguments = parser.parse_args()
    cluster = Cluster(arguments)
    try:
        cluster.create()
        outages, waits, beyond, bad, done = [], [], [], [], 0
        for _ in range(arguments.kills):
            outage, waited, failed, counted = measure(cluster, arguments)
            outages.append(outage)
            waits += waited
            beyond += [wait - outage for wait in waited]
            bad += failed
            done += counted
        print(f"{arguments.kills} kills, {arguments.clients} clients, election timeout {arguments.election_timeout} ms")
        show("outage", outages)
        show("longest wait of a client", waits)
        show("beyond the outage", beyond)
        print(f"answers other than 200: {len(bad)}", bad[:3] if bad else "")
        counter = cluster.leader().ask("GET", "/v1/kv/n")[1]
        print(f"acknowledged {done}, counted {counter}")
        if counter != done:
            sys.exit("the counter is wrong")
    finally:
        cluster.end()


main()
