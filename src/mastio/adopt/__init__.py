"""First contact with a machine that mastio did not make: whose key is it, what is there, may it be taken?

| module | what |
|---|---|
| `look` | the program that looks around there; it changes nothing |
| `judge` | what it saw → what speaks against taking the machine; pure |
| `pins` | the host keys that the site knows its machines by |
| `contact` | all of it over ssh, machine by machine |
| `old_keys` | the program that takes away, after the first apply, what opened doors before |

Nothing is changed on the machine before it is taken, and then one thing at most: root's door is opened for the
administrators' keys. Once an apply has made the site's own door, the old one goes (`close_old_door`).
"""
