"""The quarantine from the administrator's side; what holds the mail is roles/store/quarantine.py."""
