# Runs before the user's own script. What the gateway marked goes to Junk, and since that cancels the
# implicit keep, no personal script (no vacation answer, no redirect) runs for it.
require ["fileinto"];

if header :is "X-Spam" "Yes" {
    fileinto "Junk";
}
