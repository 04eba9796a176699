"""Reads files of a tree, several at a time, and compares what comes with their sources.

    compare.py READERS PIECE_BYTES TREE SOURCE NAME...

Prints a line of JSON a file, in the order of the names: {"name", "right": bytes that were right, "errno": what ended
it (0: nothing), "wrong": offset of the piece that is not the source's, or -1}.
"""
import concurrent.futures
import json
import os
import sys

readers, piece_bytes, tree, source, *names = sys.argv[1:]
piece = int(piece_bytes)


def compare(name):
    result = {"name": name, "right": 0, "errno": 0, "wrong": -1}
    with open(os.path.join(source, name), "rb") as theirs:
        try:
            ours = os.open(os.path.join(tree, name), os.O_RDONLY)
        except OSError as error:
            result["errno"] = error.errno
            return result
        try:
            while True:
                data = os.pread(ours, piece, result["right"])
                if data != theirs.read(len(data)) or (not data and theirs.read(1)):
                    result["wrong"] = result["right"]
                    return result
                if not data:
                    return result
                result["right"] += len(data)
        except OSError as error:
            result["errno"] = error.errno
            return result
        finally:
            os.close(ours)


with concurrent.futures.ThreadPoolExecutor(int(readers)) as pool:
    for found in pool.map(compare, names):
        print(json.dumps(found))
