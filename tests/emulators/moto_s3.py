"""Serves S3 from memory on a loopback port with one bucket, `models`; prints its address, and ends with its standard input."""

import os
import sys
import threading

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer

# S3 decides a conditional write in one step. moto looks first and writes then, so that two racing
# requests could both win: they go one at a time.
turn = threading.Lock()
dispatch = DomainDispatcherApplication.__call__


def one_at_a_time(application, environ, start_response):
    with turn:
        return dispatch(application, environ, start_response)


DomainDispatcherApplication.__call__ = one_at_a_time

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
address = f"http://{host}:{port}"
boto3.client(
    "s3",
    endpoint_url=address,
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
).create_bucket(Bucket="models")
print(address, flush=True)
sys.stdin.read()
os._exit(0)
