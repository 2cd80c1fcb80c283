-- Nothing at all; but for a comment.
/* ; */ ;;
