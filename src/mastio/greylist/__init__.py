"""Who need not wait, who is not wanted: the gateways' live lists, and what their greylists hold.

`lists` is the file in the site folder, `client` brings it to the gateways, `gateway` runs there.
"""
