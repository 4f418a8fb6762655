"""What machines are made of: measurements, references, and what differs between the two.

The comparing is pure (`database`, `facts`, `expected`); `place` keeps the files on watch; `client` asks watch from an
administrator's machine. What measures is `mastio.roles.integrity`, what drives it by itself `mastio.watch.integrity`.
"""
