"""What lengthwise brings to other engines, through the doors that they leave open for plug-ins."""
