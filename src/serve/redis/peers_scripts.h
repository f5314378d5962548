/* The scripts of the connect cache's shared level and of what replicas tell each other: see
 * peers_scripts.c. */
#pragma once

extern const char peers_look[], peers_keep[], peers_tell_agent[], peers_tell_all[], peers_attend[];
